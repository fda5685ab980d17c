"""A declaration becomes cells."""
