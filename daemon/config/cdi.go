package config

// CDI says whether devices can be asked for by their names in CDI.
func (c *Config) CDI() bool {
	on, said := c.Features["cdi"]
	return on || !said
}

// completeCDI: the feature switched off, and one empty name, both mean no directories.
func (c *Config) completeCDI() {
	if !c.CDI() || len(c.CDISpecDirs) == 1 && c.CDISpecDirs[0] == "" {
		c.CDISpecDirs = nil
	}
}
