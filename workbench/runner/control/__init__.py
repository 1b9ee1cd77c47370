"""Control of running collections: commands and states, as files in a folder."""
