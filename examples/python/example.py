"""A client in Python over plain NATS: python example.py <address of NATS>.

Commands and queries are requests; there is nothing to install but a client of NATS. A command has a key, so that it
can be sent again, and a read names the position of the command that it is to see.
"""

import asyncio
import json
import sys
import uuid

import nats
from nats.errors import NoRespondersError, TimeoutError

ATTEMPTS = 6
PAUSE = 0.2


class Refused(Exception):
    """A problem (RFC 9457), which says what is wrong and whether it is the caller's to mend."""

    def __init__(self, problem):
        super().__init__(f"{problem['status']} {problem['code']}: {problem['detail']}")
        self.code = problem["code"]


class Headwater:
    def __init__(self, connection, token=None):
        self.connection = connection
        self.headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.positions = {}

    async def command(self, aggregate, id, command, **fields):
        """Gives a command, and returns its outcome. The same key is sent until there is an answer."""
        headers = {"Idempotency-Key": str(uuid.uuid4())}
        answer = await self._ask(f"cmd.{aggregate}.{id}.{command}", fields, headers)
        name, position = answer.headers["Headwater-Position"].split("@")
        self.positions[name] = position
        return json.loads(answer.data)

    async def document(self, view, id):
        """Reads a document, as it is after all commands of this client."""
        return json.loads((await self._ask(f"qry.{view}.{id}", {}, self._at())).data)

    async def documents(self, view, **parameters):
        """Reads a page of a list."""
        return json.loads((await self._ask(f"qry.{view}", parameters, self._at())).data)

    def _at(self):
        latest = list(self.positions.items())[-32:]
        return {"Headwater-Min-Position": ", ".join(f"{name}@{at}" for name, at in latest)} if latest else {}

    async def _ask(self, subject, body, headers):
        payload = json.dumps(body).encode() if body or subject.startswith("cmd.") else b""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                answer = await self.connection.request(subject, payload, timeout=10, headers=self.headers | headers)
            except (NoRespondersError, TimeoutError):
                if attempt == ATTEMPTS:
                    raise
            else:
                status = (answer.headers or {}).get("Nats-Service-Error-Code")
                if status is None:
                    return answer
                # It is not known, or not yet: the same request is safe to send again.
                if status not in ("429", "503", "504") or attempt == ATTEMPTS:
                    raise Refused(json.loads(answer.data))
            await asyncio.sleep(PAUSE * 2**attempt)


async def main(address):
    connection = await nats.connect(address)
    shop = Headwater(connection)
    id = f"plum-{uuid.uuid4().hex[:8]}"
    outcome = await shop.command("product", id, "register", name="자두 1kg", price=4_900, category="fruit")
    print(f"{id} is registered, at version {outcome['version']}")
    price = (await shop.document("product", id))["document"]["price"]
    print(f"it costs {price} won")
    await shop.command("product", id, "reprice", price=5_200)
    found = await shop.documents("product", q="자두", limit=200)
    prices = {item["id"]: item["document"]["price"] for item in found["items"]}
    print(f"it is found, and costs {prices[id]} won")
    try:
        await shop.command("product", id, "register", name="자두", price=1, category="fruit")
    except Refused as refused:
        print(f"it is refused: {refused.code}")
        assert refused.code == "already_registered", refused
    else:
        sys.exit("it was registered twice")
    assert (price, prices[id]) == (4_900, 5_200), (price, prices)
    await connection.drain()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "nats://127.0.0.1:4222"))
