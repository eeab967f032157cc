"""Campaigns: one mail to everybody in a segment, approved, paced, and to each exactly once."""
