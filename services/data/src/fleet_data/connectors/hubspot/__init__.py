"""HubSpot: contacts, companies and deals on both sides."""
