"""The type checker behind the shapes in the trainer's signatures; a whole number is a number."""

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
