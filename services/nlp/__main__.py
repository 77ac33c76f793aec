"""A replica of NLP: `python -m services.nlp`."""

from meshwork.server import ServiceSpec, main

SPEC = ServiceSpec(
    name="nlp",
    full_name="meshwork.nlp.v1.NlpService",
    tasks={"sentence-encoder": "services.nlp.tasks.sentence_encoder:SentenceEncoder"},
    servicer="services.nlp.service:NlpService",
)

if __name__ == "__main__":
    main(SPEC)
