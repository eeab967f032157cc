# ruff: noqa: INP001, T201 - a script, run by hand
"""Write the weightless ONNX graph of all-MiniLM-L6-v2: `make_graph.py MODEL_FOLDER OUT.onnx`.

The graph holds operators and shapes only. Every initializer is external data: a name, an offset and a
length inside `model.safetensors`, so the 90 MB of weights stay in the package that ships them and the
graph can be read in review. Mean pooling and L2 normalisation are part of the graph. Needs `onnx`
(a development dependency); run it again only when the architecture changes.
"""

from __future__ import annotations

import argparse
import json
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

OPSET = 20  # the first with Gelu; LayerNormalization came with 17
WEIGHTS = "model.safetensors"
MASKED = -1e9  # added to the scores of padding, as large as fp32 softmax needs


@dataclass(slots=True)
class Graph:
    """Nodes and initializers in the making; every method returns the name of its output."""

    tensors: dict[str, dict[str, Any]]
    data_start: int
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    initializers: dict[str, onnx.TensorProto] = field(default_factory=dict)

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Add one operator."""
        output = f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [output], **attributes))
        return output

    def constant(self, value: Any, dtype: type = np.int64) -> str:
        """Add a small constant that lives in the graph itself."""
        array: NDArray[Any] = np.asarray(value, dtype=dtype)
        name = f"const_{array.dtype}_{'_'.join(map(str, array.ravel().tolist()))}_{array.ndim}"
        self.initializers[name] = numpy_helper.from_array(array, name)
        return name

    def weight(self, name: str) -> str:
        """Point an initializer at a tensor of the safetensors file."""
        facts = self.tensors[name]
        begin, end = facts["data_offsets"]
        tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=facts["shape"])
        tensor.data_location = TensorProto.EXTERNAL
        place = {"location": WEIGHTS, "offset": self.data_start + begin, "length": end - begin}
        for key, value in place.items():
            tensor.external_data.add(key=key, value=str(value))
        self.initializers[name] = tensor
        return name

    def linear(self, rows: str, name: str) -> str:
        """Apply a dense layer to `rows` of shape (tokens, features).

        Gemm reads the weight as torch stores it, (out, in), so nothing is transposed at load.
        """
        weight, bias = self.weight(f"{name}.weight"), self.weight(f"{name}.bias")
        return self.op("Gemm", rows, weight, bias, transB=1)

    def layer_norm(self, rows: str, name: str, epsilon: float) -> str:
        """Normalise each row."""
        scale, shift = self.weight(f"{name}.weight"), self.weight(f"{name}.bias")
        return self.op("LayerNormalization", rows, scale, shift, axis=-1, epsilon=epsilon)


def read_header(weights: Path) -> tuple[dict[str, Any], int]:
    """Return the tensors of a safetensors file and where their bytes begin."""
    with weights.open("rb") as file:
        (size,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(size))
    header.pop("__metadata__", None)
    return header, 8 + size


def embeddings(graph: Graph, config: dict[str, Any]) -> str:
    """Sum the word, position and (always first) type embeddings: (tokens, hidden)."""
    length = graph.op("Gather", graph.op("Shape", "input_ids"), graph.constant(1))
    positions = graph.op("Range", graph.constant(0), length, graph.constant(1))
    words = graph.op("Gather", graph.weight("embeddings.word_embeddings.weight"), "input_ids")
    places = graph.op("Gather", graph.weight("embeddings.position_embeddings.weight"), positions)
    kind = graph.op(
        "Gather", graph.weight("embeddings.token_type_embeddings.weight"), graph.constant(0)
    )
    total = graph.op("Add", words, graph.op("Add", places, kind))
    rows = graph.op("Reshape", total, graph.constant([-1, config["hidden_size"]]))
    return graph.layer_norm(rows, "embeddings.LayerNorm", config["layer_norm_eps"])


def attention(graph: Graph, rows: str, name: str, config: dict[str, Any], mask: str) -> str:
    """Attend within each text: (tokens, hidden) to (tokens, hidden)."""
    heads = config["num_attention_heads"]
    size = config["hidden_size"] // heads
    shape = graph.op(
        "Concat", graph.op("Shape", "input_ids"), graph.constant([heads, size]), axis=0
    )

    def split(part: str, perm: list[int]) -> str:
        dense = graph.linear(rows, f"{name}.self.{part}")
        return graph.op("Transpose", graph.op("Reshape", dense, shape), perm=perm)

    query, key = split("query", [0, 2, 1, 3]), split("key", [0, 2, 3, 1])
    scaled = graph.op("Mul", query, graph.constant(size**-0.5, np.float32))
    scores = graph.op("Add", graph.op("MatMul", scaled, key), mask)
    mixed = graph.op("MatMul", graph.op("Softmax", scores, axis=-1), split("value", [0, 2, 1, 3]))
    joined = graph.op("Transpose", mixed, perm=[0, 2, 1, 3])
    flat = graph.op("Reshape", joined, graph.constant([-1, config["hidden_size"]]))
    return graph.linear(flat, f"{name}.output.dense")


def encoder_layer(graph: Graph, rows: str, name: str, config: dict[str, Any], mask: str) -> str:
    """Run one transformer layer (post-norm, exact GELU)."""
    epsilon = config["layer_norm_eps"]
    attended = graph.op("Add", attention(graph, rows, f"{name}.attention", config, mask), rows)
    rows = graph.layer_norm(attended, f"{name}.attention.output.LayerNorm", epsilon)
    wide = graph.op("Gelu", graph.linear(rows, f"{name}.intermediate.dense"))
    narrow = graph.op("Add", graph.linear(wide, f"{name}.output.dense"), rows)
    return graph.layer_norm(narrow, f"{name}.output.LayerNorm", epsilon)


def pool(graph: Graph, rows: str, mask: str, config: dict[str, Any]) -> str:
    """Average the real tokens of each text and scale to unit length: (texts, hidden)."""
    hidden = graph.constant([config["hidden_size"]])
    shape = graph.op("Concat", graph.op("Shape", "input_ids"), hidden, axis=0)
    tokens = graph.op("Reshape", rows, shape)
    weights = graph.op("Unsqueeze", mask, graph.constant([1]))
    total = graph.op("Squeeze", graph.op("MatMul", weights, tokens), graph.constant([1]))
    # The mean's divisor cancels in the unit length, so the sum is enough.
    length = graph.op("ReduceL2", total, graph.constant([1]), keepdims=1)
    return graph.op("Div", total, graph.op("Max", length, graph.constant(1e-12, np.float32)))


def build(folder: Path) -> onnx.ModelProto:
    """Return the graph of the model in `folder` (its config.json and safetensors header)."""
    config = json.loads((folder / "config.json").read_text())
    graph = Graph(*read_header(folder / WEIGHTS))
    mask = graph.op("Cast", "attention_mask", to=TensorProto.FLOAT)
    absent = graph.op("Sub", graph.constant(1, np.float32), mask)
    penalty = graph.op("Mul", absent, graph.constant(MASKED, np.float32))
    penalty = graph.op("Unsqueeze", penalty, graph.constant([1, 2]))
    rows = embeddings(graph, config)
    for layer in range(config["num_hidden_layers"]):
        rows = encoder_layer(graph, rows, f"encoder.layer.{layer}", config, penalty)
    vectors = pool(graph, rows, mask, config)
    graph.nodes.append(helper.make_node("Identity", [vectors], ["embeddings"]))
    tokens = ["texts", "tokens"]
    proto = helper.make_graph(
        graph.nodes,
        "all-MiniLM-L6-v2",
        [
            helper.make_tensor_value_info("input_ids", TensorProto.INT64, tokens),
            helper.make_tensor_value_info("attention_mask", TensorProto.INT64, tokens),
        ],
        [
            helper.make_tensor_value_info(
                "embeddings", TensorProto.FLOAT, ["texts", config["hidden_size"]]
            )
        ],
        list(graph.initializers.values()),
    )
    return helper.make_model(proto, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)


def main() -> None:
    """Read the two paths and write the graph."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="folder with config.json and model.safetensors")
    parser.add_argument("out", type=Path, help="the graph to write")
    paths = parser.parse_args()
    paths.out.write_bytes(build(paths.folder).SerializeToString(deterministic=True))
    print(f"{paths.out}: {paths.out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
