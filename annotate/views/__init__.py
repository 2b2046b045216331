"""Pages, one module a topic. URL name = view name = template name; `access.needs` says who may see it."""
