"""Reading GitHub: repositories, files and issues, over REST."""
