"""An ONNX file's signature is read by hand, and a file that lies about itself is refused."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from pipeline.errors import ModelError
from pipeline.models.inspect import recognise
from pipeline.models.onnx_header import Port, read_onnx
from tests import tiny

ONNX = ("saliency-onnx", "rvm-onnx")


def write(path: Path, model: Any) -> Path:
    path.write_bytes(model.SerializeToString())
    return path


def test_the_signature_is_what_the_library_reads(house: Path) -> None:
    for name in ("saliency.onnx", "rvm.onnx", "classifier.onnx"):
        graph = onnx.load(house / name).graph
        header = read_onnx(house / name)
        for ports, infos in ((header.inputs, graph.input), (header.outputs, graph.output)):
            assert [p.name for p in ports] == [i.name for i in infos]
            sides = [
                tuple(d.dim_value if d.HasField("dim_value") else None for d in i.type.tensor_type.shape.dim)
                for i in infos
            ]
            assert [p.shape for p in ports] == sides
            assert {p.dtype for p in ports} == {"float32"}


def test_weights_that_older_files_also_list_as_inputs_are_no_inputs(tmp_path: Path) -> None:
    model = onnx.load(tiny.saliency_onnx(tmp_path / "a.onnx"))
    model.graph.input.append(helper.make_tensor_value_info("soft", TensorProto.FLOAT, [1, 3, 5, 5]))
    assert read_onnx(write(tmp_path / "b.onnx", model)).inputs == (Port("input", "float32", (1, 3, 32, 32)),)


@pytest.mark.parametrize(("side", "outputs"), [(32, 1), (None, 1), (32, 7)])
def test_saliency_models_of_one_or_many_outputs_are_recognised(tmp_path: Path, side: int | None, outputs: int) -> None:
    path = tiny.saliency_onnx(tmp_path / "a.onnx", side=side, outputs=outputs)
    assert recognise(path, families=ONNX).family == "saliency-onnx"


def test_another_signature_is_refused_with_what_was_found_and_what_is_wanted(house: Path) -> None:
    with pytest.raises(ModelError) as refused:
        recognise(house / "classifier.onnx", families=("rvm-onnx",))
    message = refused.value.message
    assert "takes pixels float32[1,3,32,32] and gives scores float32[1,10]" in message
    assert "src, r1i, r2i, r3i, r4i, downsample_ratio" in message
    with pytest.raises(ModelError, match=r"\[1,3,h,w\]"):
        recognise(house / "classifier.onnx", families=("saliency-onnx",))
    with pytest.raises(ModelError, match="RVM's layout, and this task takes an ONNX saliency model"):
        recognise(house / "rvm.onnx", families=("saliency-onnx",))


@pytest.mark.parametrize("place", ["initializer", "attribute", "subgraph"])
def test_weights_in_other_files_are_refused_wherever_they_hide(tmp_path: Path, place: str) -> None:
    model = onnx.load(tiny.saliency_onnx(tmp_path / "a.onnx"))
    outside = numpy_helper.from_array(np.zeros(2, np.float32), "outside")
    outside.ClearField("raw_data")
    outside.data_location = TensorProto.EXTERNAL
    outside.external_data.add(key="location", value="../../secret")
    if place == "initializer":
        model.graph.initializer.append(outside)
    elif place == "attribute":
        model.graph.node.append(helper.make_node("Constant", [], ["c"], value=outside))
    else:
        inner = helper.make_graph([], "inner", [], [], [outside])
        model.graph.node.append(helper.make_node("If", ["flag"], ["d"], then_branch=inner, else_branch=inner))
    with pytest.raises(ModelError, match="other files"):
        read_onnx(write(tmp_path / "b.onnx", model))


def test_operators_that_need_a_library_are_refused(tmp_path: Path) -> None:
    model = onnx.load(tiny.saliency_onnx(tmp_path / "a.onnx"))
    model.graph.node.append(helper.make_node("Run", ["mask0"], ["d"], domain="com.studio.ops"))
    with pytest.raises(ModelError, match=r"com\.studio\.ops"):
        read_onnx(write(tmp_path / "b.onnx", model))


def test_graphs_nested_without_end_are_refused(tmp_path: Path) -> None:
    inner = helper.make_graph([], "inner", [], [])
    for _ in range(30):
        inner = helper.make_graph(
            [helper.make_node("If", ["c"], ["d"], then_branch=inner, else_branch=inner)], "g", [], []
        )
        for attribute in inner.node[0].attribute[1:]:
            inner.node[0].attribute.remove(attribute)
    with pytest.raises(ModelError, match="nested too deep"):
        read_onnx(write(tmp_path / "b.onnx", helper.make_model(inner)))


def test_no_damage_to_a_file_gets_past_as_anything_but_a_model_error(house: Path, tmp_path: Path) -> None:
    """Every truncation, and three hundred flipped bytes: read, or refused with a reason."""
    content = (house / "rvm.onnx").read_bytes()
    path = tmp_path / "b.onnx"
    chance = random.Random(1)
    spoiled = [content[:n] for n in range(0, len(content), 23)]
    for _ in range(300):
        bytes_ = bytearray(content)
        bytes_[chance.randrange(len(bytes_))] = chance.randrange(256)
        spoiled.append(bytes(bytes_))
    refused = 0
    for damaged in spoiled:
        path.write_bytes(damaged)
        try:
            read_onnx(path)
        except ModelError:
            refused += 1
    assert refused > 50
