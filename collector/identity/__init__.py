"""Who may do what: roles, tokens, audit, and the HTTP operations with the role each one needs."""
