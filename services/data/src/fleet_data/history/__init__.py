"""What happened to records: their history, field by field, and taking a change set back."""
