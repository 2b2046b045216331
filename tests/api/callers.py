"""One person's program: a token, and requests as it would send them."""

import json

from rest_framework.authtoken.models import Token
from rest_framework.test import APIClient


class Caller:
    def __init__(self, person):
        self.client = APIClient()
        self.client.credentials(HTTP_AUTHORIZATION=f"Token {Token.objects.get_or_create(user=person)[0]}")

    def get(self, path, **query):
        return self.client.get(path, query)

    def post(self, path, body=None, **headers):
        return self.client.post(path, json.dumps(body or {}), content_type="application/json", headers=headers)

    def patch(self, path, body):
        return self.client.patch(path, json.dumps(body), content_type="application/json")
