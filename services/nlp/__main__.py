"""A replica of NLP: `python -m services.nlp`."""

from meshwork.server import ServiceSpec, main

SPEC = ServiceSpec(
    name="nlp",
    full_name="meshwork.nlp.v1.NlpService",
    tasks={
        "sentence-encoder": "services.nlp.tasks.sentence_encoder:SentenceEncoder",
        "text-classification": "services.nlp.tasks.text_classification:TextClassification",
        "token-classification": "services.nlp.tasks.token_classification:TokenClassification",
        "question-answering": "services.nlp.tasks.question_answering:QuestionAnswering",
    },
    architectures={
        "ForSequenceClassification": "text-classification",
        "ForTokenClassification": "token-classification",
        "ForQuestionAnswering": "question-answering",
        "ForMaskedLM": "sentence-encoder",
        "Model": "sentence-encoder",
    },
    servicer="services.nlp.service:NlpService",
)

if __name__ == "__main__":
    main(SPEC)
