"""Preference data for researchers, one module per format, as JSON lines, a JSON array or Parquet. All of it streams.

for chunk in export_chunks(format="trl", file_type="jsonl", filters=PreferenceFilters()):
    file.write(chunk)
"""

from collections.abc import Iterator

from django.utils.translation import gettext as _

from annotate.errors import WrongFilter
from annotate.exports import demonstrations, hh, moss, rankings, trl, trl_conversational
from annotate.exports.files import FILE_TYPES
from annotate.models import Ranking
from annotate.preferences import PreferenceFilters, ranking_rows

FORMATS = {
    "trl": trl,
    "trl-conversational": trl_conversational,
    "hh": hh,
    "moss": moss,
    "rankings": rankings,
    "demonstrations": demonstrations,
}


def export_chunks(*, format: str, file_type: str, filters: PreferenceFilters) -> Iterator[bytes]:
    """The bytes of an export, oldest ranking first. Raises WrongFilter before the first one."""
    if format not in FORMATS:
        raise WrongFilter(_("The format must be one of %(names)s.") % {"names": ", ".join(FORMATS)})
    if file_type not in FILE_TYPES:
        raise WrongFilter(_("The file must be one of %(names)s.") % {"names": ", ".join(FILE_TYPES)})
    filters.refuse_what_is_not_there()
    chosen = FORMATS[format]
    rows = ranking_rows(filters.apply(Ranking.objects.all()))
    return FILE_TYPES[file_type]((each for row in rows for each in chosen.records(row)), chosen.COLUMNS)
