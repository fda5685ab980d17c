"""What tests of several folders share: data, oracles, helpers, programs. No tests."""
