"""What the description cannot say."""

import schemathesis


@schemathesis.hook
def before_load_schema(context, raw_schema):
    """Leaves out a cursor, which only a list makes up."""
    for operations in raw_schema.get("paths", {}).values():
        for operation in operations.values():
            if isinstance(operation, dict) and "parameters" in operation:
                given = operation["parameters"]
                operation["parameters"] = [one for one in given if one.get("name") != "cursor"]


@schemathesis.hook
def map_query(context, query):
    """Leaves out a search for nothing that can be seen."""
    if isinstance(query, dict):
        text = query.get("q")
        if isinstance(text, str) and not any(sign.isprintable() and not sign.isspace() for sign in text):
            del query["q"]
    return query
