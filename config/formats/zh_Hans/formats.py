"""Large numbers in Chinese: 1,234,567. Django groups none; names as in `django.conf.locale.zh_Hans.formats`."""

THOUSAND_SEPARATOR = ","
NUMBER_GROUPING = 3
