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
        "text-generation": "services.nlp.tasks.causal_lm:CausalLM",
    },
    architectures={
        "ForSequenceClassification": "text-classification",
        "ForTokenClassification": "token-classification",
        "ForQuestionAnswering": "question-answering",
        "ForMaskedLM": "sentence-encoder",
        "Model": "sentence-encoder",
        "ForCausalLM": "text-generation",
        "LMHeadModel": "text-generation",
    },
    servicer="services.nlp.service:NlpService",
)

if __name__ == "__main__":
    main(SPEC)
