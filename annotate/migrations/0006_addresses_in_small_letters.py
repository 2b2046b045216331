"""Accounts whose address has a capital could not sign in: what is typed is looked for in small letters."""

from django.db import migrations


def write_small(apps, schema_editor):
    """Of two addresses that differ by case alone, the older account gets the small one; the other stays as it is."""
    users = apps.get_model("annotate", "User").objects
    for name in ("email", "username"):  # the first manager's command for a new password names the latter
        taken = set(users.values_list(name, flat=True))
        for pk, address in users.filter(**{f"{name}__contains": "@"}).order_by("pk").values_list("pk", name):
            small = address.strip().lower()
            if small not in taken:
                users.filter(pk=pk).update(**{name: small})
                taken.add(small)


class Migration(migrations.Migration):
    dependencies = [("annotate", "0005_snapshots_know_their_tokens")]

    operations = [
        migrations.AlterModelManagers("user", managers=[]),
        migrations.RunPython(write_small, migrations.RunPython.noop),
    ]
