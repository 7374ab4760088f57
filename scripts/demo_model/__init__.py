"""Everything needed to make the demo model: its pictures, captions, networks, training, judge."""
