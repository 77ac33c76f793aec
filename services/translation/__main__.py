"""A replica of translation: `python -m services.translation`."""

from meshwork.server import ServiceSpec, main

SPEC = ServiceSpec(
    name="translation",
    full_name="meshwork.translation.v1.TranslationService",
    tasks={
        "phrases": "services.translation.tasks.phrases:Phrases",
        "langid": "services.translation.tasks.langid:Langid",
        "translation": "services.translation.tasks.marian:Marian",
        "multilingual-translation": "services.translation.tasks.multilingual:Multilingual",
    },
    servicer="services.translation.service:TranslationService",
    architectures={
        "MarianMTModel": "translation",
        "M2M100ForConditionalGeneration": "multilingual-translation",
    },
)

if __name__ == "__main__":
    main(SPEC)
