"""What agents are asked for and send: rounds with their pages, and answers to questions."""
