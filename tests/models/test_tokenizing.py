"""Tokenizers of language models: labels in three of them, chat templates, special tokens, cuts, limits."""

import json
import shutil

import pytest
from cribble.errors import InputError, UsageError
from cribble.models.calls import Message, Prompt
from cribble.models.tokenizing import HFTokens

SYSTEM, USER = Message("system", "You rank passages."), Message("user", "Query: cat")
#: A model for each tokenizer: Unigram with ▁ (SentencePiece's), byte-level BPE, WordPiece.
THREE = ("llama", "qwen2", "wordy")


@pytest.fixture
def tokens(language_model):
    return lambda kind, **options: HFTokens(language_model(kind), **options)


# ---- labels ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", THREE)
def test_letters_after_a_bracket_are_the_bare_letter(tokens, kind):
    """FIRST's question: after `[` the letter is not the form that follows a blank."""
    tokens = tokens(kind)
    letters = tuple("ABCDEFGHIJKLMNOPQRST")
    ids = tokens.label_ids(Prompt(text="Rank them.", tail="["), letters)
    assert tokens.tokenizer.convert_ids_to_tokens(list(ids)) == list(letters)


@pytest.mark.parametrize(
    ("kind", "label", "token"), [("llama", " yes", "▁yes"), ("qwen2", " yes", "Ġyes"), ("wordy", " yes", "yes")]
)
def test_a_label_may_begin_with_its_blank(tokens, kind, label, token):
    tokens = tokens(kind)
    (found,) = tokens.label_ids(Prompt(text="Document: cat Relevant:"), (label,))
    assert tokens.tokenizer.convert_ids_to_tokens(found) == token


def test_a_label_at_the_start_of_a_decoder(tokens):
    """In T5 the encoder's text is no context: ▁true and ▁false, as monoT5 reads them."""
    tokens = tokens("t5")
    ids = tokens.label_ids(Prompt(text="Query: cat Document: dog Relevant:"), ("true", "false"))
    assert tokens.tokenizer.convert_ids_to_tokens(list(ids)) == ["▁true", "▁false"]
    (letter,) = tokens.label_ids(Prompt(text="Which?", tail="Passage"), (" A",))
    assert tokens.tokenizer.convert_ids_to_tokens(letter) == "▁A"


@pytest.mark.parametrize("kind", THREE)
def test_a_label_of_several_tokens_is_refused(tokens, kind):
    tokens = tokens(kind)
    with pytest.raises(InputError, match=r"'search index'.*not one token.*tokenizer of " + kind + r" \(alone it is \["):
        tokens.check_labels(Prompt(text="Relevant: "), ("search index",))


def test_a_label_that_would_change_the_prompt_is_refused(tokens):
    """After `Relevant: ` (with a blank) byte-level BPE would put the blank into the label's token."""
    with pytest.raises(InputError, match="'yes' is not one token after the prompt's end 'Relevant: '"):
        tokens("qwen2").check_labels(Prompt(text="Relevant: "), ("yes",))


def test_unknown_and_equal_labels_are_refused(tokens):
    with pytest.raises(InputError, match="has no token of its own"):
        tokens("llama").check_labels(Prompt(text="x", tail="["), ("Ж",))
    with pytest.raises(InputError, match="has no token of its own"):
        tokens("llama").check_labels(Prompt(text="x", tail="["), ("A", "A"))


# ---- special tokens --------------------------------------------------------------------------------------------------


def test_bos_comes_once(tokens):
    llama = tokens("llama")
    bos = llama.tokenizer.bos_token_id
    assert llama.ids(Prompt(text="the cat")).tolist()[0] == bos
    assert llama.ids(Prompt(text="<s>the cat")).tolist().count(bos) == 1
    assert llama.ids(Prompt(text="the cat", special=False)).tolist().count(bos) == 0
    chat = tokens("mistral").ids(Prompt(messages=(USER,)))  # the template writes <s> itself
    assert chat.tolist()[0] == bos
    assert chat.tolist().count(bos) == 1


def test_a_prompt_does_not_end(language_model, tmp_path):
    """A tokenizer that closes every text (Qwen3's embedding models do) closes no prompt of a causal model."""
    from tokenizers import Tokenizer, processors

    folder = shutil.copytree(language_model("qwen2"), tmp_path / "closing")
    inner = Tokenizer.from_file(str(folder / "tokenizer.json"))
    end = ("<|im_end|>", inner.token_to_id("<|im_end|>"))
    inner.post_processor = processors.TemplateProcessing(single="$A <|im_end|>", special_tokens=[end])
    inner.save(str(folder / "tokenizer.json"))
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings["tokenizer_class"] = "TokenizersBackend"
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    closing = HFTokens(folder)
    assert closing.tokenizer("the cat")["input_ids"][-1] == end[1]
    assert closing.ids(Prompt(text="the cat")).tolist() == closing.encode("the cat")


def test_an_encoder_reads_the_end_token(tokens):
    t5 = tokens("t5")
    (ids,) = t5.encoder_ids(Prompt(text="the cat"))
    assert ids == [*t5.encode("the cat"), t5.tokenizer.eos_token_id]
    assert t5.encoder_ids(Prompt(text="the cat", special=False)) == [t5.encode("the cat")]
    apart = t5.encoder_ids(Prompt(parts=("the cat", "a dog")))
    assert apart == [[*t5.encode(text), t5.tokenizer.eos_token_id] for text in ("the cat", "a dog")]
    assert t5.count(Prompt(parts=("the cat", "a dog"), tail="Passage")) == sum(map(len, apart)) + t5.length("Passage")


# ---- chat templates --------------------------------------------------------------------------------------------------


def test_a_template_with_a_system_role(tokens):
    text = tokens("qwen2").rendered(Prompt(messages=(SYSTEM, USER)))
    assert text == (
        "<|im_start|>system\nYou rank passages.<|im_end|>\n<|im_start|>user\nQuery: cat<|im_end|>\n<|im_start|>assistant\n"
    )


def test_thinking_is_handed_to_the_template(tokens):
    empty = "<think>\n\n</think>\n\n"
    qwen = tokens("qwen2")
    ends = {t: qwen.rendered(Prompt(messages=(USER,), thinking=t)).endswith(empty) for t in (None, True, False)}
    assert ends == {None: False, True: False, False: True}


def test_a_template_that_refuses_the_system_role_gets_it_in_the_first_turn(tokens):
    mistral = tokens("mistral")
    turns = (SYSTEM, USER, Message("assistant", "Yes."), Message("user", "Go on."))
    expected = "<s>[INST] You rank passages.\n\nQuery: cat [/INST] Yes.</s>[INST] Go on. [/INST]"
    assert mistral.rendered(Prompt(messages=turns)) == expected
    text = mistral.rendered(Prompt(messages=(SYSTEM, USER), without_system="\n "))
    assert text == "<s>[INST] You rank passages.\n Query: cat [/INST]"


def test_a_template_that_drops_the_system_role_in_silence_gets_it_in_the_first_turn(tokens, tmp_path):
    from cribble.tests.models.tiny_language_models import DROPS_SYSTEM

    path = tmp_path / "template.jinja"
    path.write_text(DROPS_SYSTEM)
    text = tokens("llama", chat_template=str(path)).rendered(Prompt(messages=(SYSTEM, USER)))
    assert text == "<s>[INST] You rank passages.\n\nQuery: cat [/INST]"


def test_no_chat_template(tokens):
    with pytest.raises(UsageError, match=r"tokenizer of wordy has no chat template.*chat_template file"):
        tokens("wordy").rendered(Prompt(messages=(USER,)))
    with pytest.raises(UsageError, match=r"'nowhere\.jinja' is no file"):
        tokens("wordy", chat_template="nowhere.jinja").rendered(Prompt(messages=(USER,)))


def test_turns_that_a_template_refuses_are_named(tokens):
    with pytest.raises(InputError, match=r"chat template of mistral refuses turns of user, user: Roles must alternate"):
        tokens("mistral").rendered(Prompt(messages=(USER, USER)))


def test_the_tail_follows_the_generation_prompt(tokens):
    qwen = tokens("qwen2")
    whole = qwen.rendered(Prompt(messages=(USER,))) + "["
    assert qwen.ids(Prompt(messages=(USER,), tail="[")).tolist() == qwen.encode(whole)


# ---- counts, cuts, limits --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [*THREE, "t5"])
def test_a_cut_is_a_beginning_of_at_most_so_many_tokens(tokens, kind):
    tokens = tokens(kind)
    text = "the cat  and a (dog) in [the] river naïve 🎉🎉 日本語 search"
    for n in range(tokens.length(text) + 2):
        cut = tokens.cut(text, n)
        assert text.startswith(cut)
        assert tokens.length(cut) <= n
    assert tokens.cut(text, tokens.length(text)) == text
    assert tokens.cut(text, 3) != ""


def test_many_prompts_at_once_give_the_same_ids(tokens):
    qwen = tokens("qwen2")
    prompts = [Prompt(text="the cat " * n, tail="[" * (n % 2)) for n in (3, 1, 2, 3)]
    together = [ids.tolist() for ids in qwen.ids_of(prompts)]
    assert together == [tokens_alone.tolist() for tokens_alone in (HFTokens(qwen.model).ids(p) for p in prompts)]
    assert [qwen.count(prompt) for prompt in prompts] == [len(ids) for ids in together]


def test_limits(tokens):
    assert tokens("llama").limit == 512
    assert tokens("llama", max_length=100).limit == 100
    assert tokens("t5").limit is None
    assert tokens("t5", max_length=100).limit == 100
    with pytest.raises(UsageError, match="max_length=513: llama has 512 positions"):
        _ = tokens("llama", max_length=513).limit
    with pytest.raises(UsageError, match="expected at least 1 token"):
        tokens("llama", max_length=0)


def test_needs_no_weights(language_model, tmp_path):
    folder = shutil.copytree(language_model("llama"), tmp_path / "bare", ignore=shutil.ignore_patterns("*.safetensors"))
    assert HFTokens(folder).count(Prompt(text="the cat")) == 3


def test_a_folder_without_a_tokenizer(language_model, tmp_path):
    (tmp_path / "config.json").write_bytes((language_model("llama") / "config.json").read_bytes())
    with pytest.raises(InputError, match=r"tokenizer of .* can't be loaded.*needs tokenizer.json"):
        HFTokens(tmp_path).length("the cat")


def test_the_digest_knows_tokenizer_and_template(tokens, tmp_path):
    path = tmp_path / "other.jinja"
    path.write_text("{{ messages[0].content }}")
    assert tokens("qwen2").digest == tokens("qwen3").digest  # the same files
    assert len({tokens("qwen2").digest, tokens("llama").digest, tokens("qwen2", chat_template=str(path)).digest}) == 3
