"""Files out of the CRM and into it: exports and imports as jobs, their folder, and the signed links to it."""
