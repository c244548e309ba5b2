"""Raw clips centred, resampled and turned."""
