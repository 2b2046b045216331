"""Pages, one module a topic. URL name = view name = template name; `access.allow` says who may see it."""
