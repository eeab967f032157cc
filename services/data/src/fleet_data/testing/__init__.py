"""What tests of every feature that runs callers' SQL share: the attacks, and who sees what they did."""
