"""A replica of translation: `python -m services.translation`."""

from meshwork.server import ServiceSpec, main

SPEC = ServiceSpec(
    name="translation",
    full_name="meshwork.translation.v1.TranslationService",
    tasks={
        "phrases": "services.translation.tasks.phrases:Phrases",
        "langid": "services.translation.tasks.langid:Langid",
    },
    servicer="services.translation.service:TranslationService",
)

if __name__ == "__main__":
    main(SPEC)
