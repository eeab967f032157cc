"""Measure retrieval on the Cranfield collection: `evaluate_cranfield.py FOLDER`.

FOLDER holds `cran.all.1400`, `cran.qry` and `cranqrel` (1,400 abstracts, 225 questions, 1,837 judgements).
Documents go in and come out through `Rag`, as a caller's would. Prints nDCG@10 of the three modes and
exits with 1 when hybrid is below .47 or below 1.08 times the better of the others.
"""
# ruff: noqa: INP001, T201 - a script, run by hand

from __future__ import annotations

import argparse
import asyncio
import json
import math
import re
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

from fleet_aiml.embedding.engine.opening import open_queue
from fleet_aiml.embedding.engine.wordpieces import WordPieces
from fleet_aiml.embedding.models import ALL_MINILM_L6_V2
from fleet_aiml.embedding.service import Embedder
from fleet_aiml.rag.bm25 import Bm25
from fleet_aiml.rag.models import BM25, Chunking, Document, Mode
from fleet_aiml.rag.opening import open_store
from fleet_aiml.rag.service import Rag
from fleet_aiml.settings import AimlSettings

GAIN = {1: 4, 2: 3, 3: 2, 4: 1, 5: 0, -1: 1}
MODES: tuple[Mode, ...] = ("dense", "sparse", "hybrid")
LEAST_HYBRID, LEAST_GAIN = 0.47, 1.08
DEPTH = 10
Judgements = dict[int, dict[str, int]]


def records(path: Path) -> list[str]:
    """Return the records of a file in SMART format, without their number."""
    return re.split(r"^\.I \d+\n", path.read_text("latin-1"), flags=re.MULTILINE)[1:]


def read_documents(folder: Path) -> list[Document]:
    """Return the abstracts with their titles; their number is the id."""
    documents = []
    for number, record in enumerate(records(folder / "cran.all.1400"), start=1):
        title, text = record.split(".W\n", 1)
        title = " ".join(title.split(".A\n")[0].removeprefix(".T\n").split())
        text = " ".join(text.split()) or title or "-"
        documents.append(Document(id=str(number), title=title or None, text=text))
    return documents


def read_judgements(folder: Path) -> Judgements:
    """Return the gain of each judged document by question, from 1 in the order of the file."""
    gains: Judgements = defaultdict(dict)
    for line in (folder / "cranqrel").read_text().splitlines():
        question, document, grade = line.split()[:3]
        gains[int(question)][document] = GAIN[int(grade)]
    return gains


def ndcg(ranking: list[str], gains: dict[str, int]) -> float:
    """Return nDCG@10."""
    ideal = sorted(gains.values(), reverse=True)[:DEPTH]
    best = sum(gain / math.log2(place + 2) for place, gain in enumerate(ideal))
    got = sum(gains.get(d, 0) / math.log2(place + 2) for place, d in enumerate(ranking[:DEPTH]))
    return got / best if best else 0.0


async def ask(rag: Rag, question: str, mode: Mode) -> list[str]:
    """Return document ids, each at the place of its best passage."""
    found = await rag.search("bench", "cranfield", question, mode=mode, top_k=50)
    return list(dict.fromkeys(hit.payload["doc_id"] for hit in found.hits))


async def evaluate(rag: Rag, folder: Path) -> dict[str, float]:
    """Return the figures."""
    documents, gains = read_documents(folder), read_judgements(folder)
    started = time.perf_counter()
    for begin in range(0, len(documents), 64):
        await rag.ingest("bench", "cranfield", documents[begin : begin + 64], chunking=Chunking())
    figures = {"ingest_s": round(time.perf_counter() - started, 1)}
    questions = [" ".join(r.split(".W\n", 1)[1].split()) for r in records(folder / "cran.qry")]
    for mode in MODES:
        started = time.perf_counter()
        scores = [
            ndcg(await ask(rag, question, mode), gains[number])
            for number, question in enumerate(questions, start=1)
        ]
        figures[f"{mode}_ndcg10"] = round(sum(scores) / len(scores), 4)
        figures[f"{mode}_ms"] = round((time.perf_counter() - started) / len(questions) * 1000, 1)
    best = max(figures["dense_ndcg10"], figures["sparse_ndcg10"])
    figures["hybrid_gain"] = round(figures["hybrid_ndcg10"] / best, 3)
    return figures


async def main(folder: Path) -> int:
    """Run it in a store of its own and return the exit status."""
    with tempfile.TemporaryDirectory() as scratch:
        settings = AimlSettings(vector_path=Path(scratch))
        words = WordPieces(settings.model_path, max_tokens=ALL_MINILM_L6_V2.max_tokens)
        async with open_queue(settings, words) as queue, open_store(settings) as store:
            embedder = Embedder(queue, ALL_MINILM_L6_V2)
            figures = await evaluate(Rag(store, embedder, Bm25(BM25), words.spans), folder)
    print(json.dumps({"figures": figures}, indent=2))
    is_good = figures["hybrid_ndcg10"] >= LEAST_HYBRID and figures["hybrid_gain"] >= LEAST_GAIN
    return 0 if is_good else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="folder with the collection")
    sys.exit(asyncio.run(main(parser.parse_args().folder)))
