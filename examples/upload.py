# TOKEN=... python3 examples/upload.py examples/tone.wav
import json
import os
import sys

import requests

endpoint = os.environ.get("ENDPOINT", "http://localhost:8000/graphql")
query = "mutation ($file: Upload!) { uploadRecord(file: $file) { record { url } } }"

try:
    with open(sys.argv[1], "rb") as wav:
        answer = requests.post(
            endpoint,
            headers={"Authorization": f"Bearer {os.environ['TOKEN']}"},
            files={
                "operations": (None, json.dumps({"query": query, "variables": {"file": None}})),
                "map": (None, json.dumps({"0": ["variables.file"]})),
                "0": wav,  # after the other two
            },
        )
    body = answer.json()
except (OSError, ValueError) as error:  # also every error of requests
    sys.exit(f"{type(error).__name__}: {error}")

if body.get("errors"):
    error = body["errors"][0]
    sys.exit(f"{error['extensions']['code']} {error['message']}")
print(body["data"]["uploadRecord"]["record"]["url"])
