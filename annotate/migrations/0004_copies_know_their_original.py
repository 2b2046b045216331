import django.db.models.deletion
from django.db import migrations, models
from django.db.models import Q


def read_from_the_log(apps, schema_editor):
    """Until now only the audit log said what a gold or training comparison was copied from."""
    comparisons = apps.get_model("annotate", "Comparison").objects
    for made in apps.get_model("annotate", "AuditEvent").objects.filter(action="make.gold").order_by("id"):
        copy = int(made.target.split()[1].rstrip(":"))  # "comparison 7: comparison 7"
        original = comparisons.filter(pk=made.detail["copied_from"]).first()
        if original is not None:
            comparisons.filter(pk=copy).update(copied_from=original.copied_from_id or original.pk)


class Migration(migrations.Migration):
    dependencies = [("annotate", "0003_better_answers_belong_to_revisions")]

    operations = [
        migrations.AddField(
            model_name="comparison",
            name="copied_from",
            field=models.ForeignKey(
                blank=True,
                db_index=False,
                null=True,
                on_delete=django.db.models.deletion.SET_NULL,
                related_name="copies",
                to="annotate.comparison",
            ),
        ),
        migrations.AddIndex(
            model_name="comparison",
            index=models.Index(
                fields=["copied_from"], condition=Q(copied_from__isnull=False), name="copies_of_a_comparison"
            ),
        ),
        migrations.RunPython(read_from_the_log, migrations.RunPython.noop),
    ]
