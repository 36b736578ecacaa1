"""
Languages: how many words does the router need?
===============================================

A router by byte n-grams sends each text to the expert of its language. Here it learns from half of
the messages of Sphinx, which builds this page, and their translations. The other half is the test.
"""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import sphinx.locale
from babel.messages.pofile import read_po

from skmode.language import DomainRouter

folder = Path(sphinx.locale.__file__).parent
train, test = {"en": []}, {"en": []}
for language in ("fr", "es", "pt_BR", "sv"):
    with open(folder / language / "LC_MESSAGES" / "sphinx.po", "rb") as file:
        # Without the head of the file, and without messages in singular and plural.
        known = [each for each in read_po(file) if each.id and isinstance(each.id, str)]
    messages = [each for each in known if each.string]
    # By the English message, so that all languages test on translations of the same ones.
    parts = {part: [each for each in messages if len(each.id) % 2 == part] for part in (0, 1)}
    train[language], test[language] = ([each.string for each in parts[part]] for part in (0, 1))
    if language == "fr":
        train["en"], test["en"] = ([each.id for each in parts[part]] for part in (0, 1))

texts = [text for each in train.values() for text in each]
languages = [language for language, each in train.items() for _ in each]
router = DomainRouter(random_state=0).fit(texts, languages)
for line in ["where is the file?", "où est le fichier ?", "var är filen?", "где этот файл?"]:
    print(router.predict([line])[0], router.predict_proba([line]).max().round(3), line)

# %%
# ``None`` above is an abstention: the line resembles no language that the router knows. Below: one
# word is too few, five or six suffice, except for Portuguese, some of whose lines pass for Spanish.
lengths = range(1, 9)
figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.2), sharey=True, layout="constrained")
for language, each in test.items():
    long = [text.split() for text in each if len(text.split()) >= max(lengths)]
    starts = [[" ".join(words[:length]) for words in long] for length in lengths]
    sure = [router.predict_proba(texts).max(axis=1).mean() for texts in starts]
    column = router.domains_.index(language)
    right_ones = [np.mean(router.predict_proba(texts).argmax(axis=1) == column) for texts in starts]
    left.plot(lengths, sure, marker=".", label=language)
    right.plot(lengths, right_ones, marker=".", label=language)
left.set(xlabel="first words of a message", ylabel="mean largest probability")
right.set(xlabel="first words of a message", ylabel="share that gets its language")
right.legend()
plt.show()
