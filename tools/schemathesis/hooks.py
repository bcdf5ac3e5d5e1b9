"""What the description cannot say."""

import schemathesis


@schemathesis.hook
def map_query(context, query):
    """Leaves out a cursor, which only a list makes up, and a search for nothing that can be seen."""
    if isinstance(query, dict):
        query.pop("cursor", None)
        text = query.get("q")
        if isinstance(text, str) and not any(sign.isprintable() and not sign.isspace() for sign in text):
            del query["q"]
    return query
