import django.db.models.deletion
from django.db import migrations, models
from django.db.models import OuterRef, Subquery


def give_to_current_revision(apps, schema_editor):
    """Until now a better answer stood with the whole assignment: it was the newest revision's."""
    demonstrations = apps.get_model("annotate", "Demonstration").objects
    rankings = apps.get_model("annotate", "Ranking").objects
    current = rankings.filter(assignment=OuterRef("assignment"), is_current=True)
    demonstrations.update(ranking=Subquery(current.values("pk")[:1]))
    demonstrations.filter(ranking=None).delete()  # of assignments that are gone


class Migration(migrations.Migration):
    dependencies = [("annotate", "0002_second_opinions")]

    operations = [
        migrations.AddField(
            model_name="demonstration",
            name="ranking",
            field=models.OneToOneField(
                null=True,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="demonstration",
                to="annotate.ranking",
            ),
        ),
        migrations.RunPython(give_to_current_revision, migrations.RunPython.noop),
        migrations.RemoveField(model_name="demonstration", name="assignment"),
        migrations.AlterField(
            model_name="demonstration",
            name="ranking",
            field=models.OneToOneField(
                on_delete=django.db.models.deletion.CASCADE, related_name="demonstration", to="annotate.ranking"
            ),
        ),
    ]
