"""What a configuration of this bundle may name; travels in the bundle and imports nothing from `bundle`."""
