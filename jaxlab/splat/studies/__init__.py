"""The studies: each measures some rows of the claims table."""
