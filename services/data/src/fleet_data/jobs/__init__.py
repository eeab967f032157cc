"""Work whose truth is in the database: rows say what is due, any worker takes it, a lease says who has it."""
