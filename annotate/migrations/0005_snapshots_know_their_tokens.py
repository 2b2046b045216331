"""Snapshots that exist keep the records that were hashed: without token ids. New ones have them."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("annotate", "0004_copies_know_their_original")]
    operations = [
        migrations.AddField("preferencesnapshot", "has_token_ids", models.BooleanField(default=False)),
        migrations.AlterField("preferencesnapshot", "has_token_ids", models.BooleanField(default=True)),
    ]
