// Lets the package declare functions without a body, which are linked by name.
