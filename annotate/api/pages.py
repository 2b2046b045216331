"""Long lists, a page at a time: `?limit=50&offset=100`."""

from rest_framework.pagination import LimitOffsetPagination

LARGEST_OFFSET = 10**9


class Pages(LimitOffsetPagination):
    max_limit = 500

    def get_offset(self, request) -> int:
        return min(super().get_offset(request), LARGEST_OFFSET)
