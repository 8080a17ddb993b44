"""The runner of the studies: declarations, the store of runs, measures, pages."""
