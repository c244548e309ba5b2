"""Raw formats, one file each: what datasets ship, read into raw clips (3, F, V, M) in the sensor's units."""
