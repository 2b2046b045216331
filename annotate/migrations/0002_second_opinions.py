from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("annotate", "0001_initial")]

    operations = [
        migrations.AddField(
            model_name="comparison",
            name="asked_again_at",
            field=models.DateTimeField(blank=True, help_text="When a second opinion was asked for.", null=True),
        ),
        migrations.AlterField(
            model_name="comparison",
            name="priority",
            field=models.IntegerField(default=0, help_text="Higher comes first."),
        ),
    ]
