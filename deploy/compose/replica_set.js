// Transactions need a replica set; one member is enough for a demonstration. Run again, it changes nothing.
try {
  rs.status();
} catch (error) {
  if (error.codeName !== "NotYetInitialized") throw error;
  rs.initiate({ _id: "rs0", members: [{ _id: 0, host: "mongo:27017" }] });
}
for (let attempt = 0; attempt < 60 && !db.hello().isWritablePrimary; attempt += 1) sleep(500);
if (!db.hello().isWritablePrimary) quit(1);
