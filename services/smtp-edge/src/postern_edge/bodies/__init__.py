"""Where message bodies are kept, apart from what is known about the messages."""
