"""Mail: what is written, how it leaves (Gmail or SMTP), and how it never leaves twice."""
