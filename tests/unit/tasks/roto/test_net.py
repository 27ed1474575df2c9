from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from pipeline.errors import ModelError
from pipeline.models.backbone import check_sha256, load_backbone
from pipeline.tasks.roto.fit import loss_of
from pipeline.tasks.roto.fused import FusedNet
from pipeline.tasks.roto.infer import predict, search_box
from pipeline.tasks.roto.net import Encoder, RotoNet
from pipeline.tasks.roto.sampler import KeyFrame, Sampler

from .tiny import disk, gliding, texture


def test_the_encoder_is_efficientnet_lite0_with_the_published_weights() -> None:
    """Its features equal those of convolution and batch norm done one after the other, straight from the file."""
    state = load_backbone()
    encoder = Encoder().eval()
    encoder.load_imagenet(state)
    rgb = torch.from_numpy(texture(1).transpose(2, 0, 1)[None].copy())

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        p = {k: state[f"{name}.{k}"] for k in ("running_mean", "running_var", "weight", "bias")}
        return F.batch_norm(x, p["running_mean"], p["running_var"], p["weight"], p["bias"], eps=1e-3)

    mean, std = (
        torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1),
        torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1),
    )
    x = F.relu6(norm(F.conv2d(F.pad((rgb - mean) / std, (0, 1, 0, 1)), state["_conv_stem.weight"], stride=2), "_bn0"))
    x = F.relu6(norm(F.conv2d(x, state["_blocks.0._depthwise_conv.weight"], padding=1, groups=32), "_blocks.0._bn1"))
    x = norm(F.conv2d(x, state["_blocks.0._project_conv.weight"]), "_blocks.0._bn2")
    with torch.no_grad():
        features = encoder(rgb)
    assert torch.allclose(features[0], x, atol=1e-4)
    assert [tuple(f.shape[1:]) for f in features] == [(16, 32, 48), (24, 16, 24), (40, 8, 12), (112, 4, 6), (320, 2, 3)]


def test_changed_weights_are_refused(tmp_path: Path) -> None:
    fake = tmp_path / "weights.pth"
    fake.write_bytes(b"not these")
    with pytest.raises(ModelError, match="sha256"):
        load_backbone(fake)
    with pytest.raises(ModelError, match="can't be read"):
        check_sha256(tmp_path / "absent", "0" * 64)
    with pytest.raises(ModelError, match="EfficientNet"):
        Encoder().load_imagenet({"_conv_stem.weight": torch.zeros(1)})


def test_a_seed_gives_the_same_samples_and_they_are_whole() -> None:
    scene = gliding(second=True)
    frames = [
        KeyFrame(np.ascontiguousarray(scene.pictures[f].transpose(1, 2, 0)), {n: m[f] for n, m in scene.mattes.items()})
        for f in (1001, 1005)
    ]
    frames.append(KeyFrame(frames[0].rgb, {"ball": frames[0].mattes["ball"]}))
    a, b = (Sampler(frames, ["ball", "puck"], 3) for _ in range(2))
    seen = np.zeros(2)
    for _ in range(40):
        s, t = a.draw(), b.draw()
        for x, y in ((s.rgb, t.rgb), (s.prior, t.prior), (s.truth, t.truth)):
            assert x.tobytes() == y.tobytes() and x.dtype == np.float32 and np.isfinite(x).all()
        assert s.rgb.shape == (3, 64, 96) and s.prior.shape == (4, 64, 96) and s.truth.shape == (2, 64, 96)
        assert s.known[0] == 1 and s.rgb.min() >= 0
        assert all(len(np.unique(plane)) == 1 for plane in s.prior[2:]), "how good a prior is, is one number"
        assert all(plane.any() or not quality.any() for plane, quality in zip(s.prior[:2], s.prior[2:], strict=True))
        seen += s.known
    assert seen[0] == 40 > seen[1] > 0, "the frame without a puck says nothing of it"


def test_objects_that_a_frame_says_nothing_of_do_not_count() -> None:
    truth = torch.from_numpy(np.stack([disk(40, 30, 10), disk(60, 30, 10)])[None])
    right = (truth * 2 - 1) * 20
    wrong = right.clone()
    wrong[:, 1] *= -1
    assert float(loss_of(right, truth, torch.ones(2))) < 0.01
    assert float(loss_of(wrong, truth, torch.ones(2))) > 1
    assert float(loss_of(wrong, truth, torch.tensor([1.0, 0.0]))) < 0.01


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("objects", [1, 2])
def test_a_net_made_for_answering_gives_the_same_answers(
    objects: int, fused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against the net as it is trained, asked twice; with oneDNN's fused operator and without."""
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: fused)
    torch.manual_seed(4)
    net = RotoNet(objects).eval()
    net.encoder.load_imagenet(load_backbone())
    rgb = torch.from_numpy(texture(3, 96, 128).transpose(2, 0, 1)[None].copy())
    mattes = torch.from_numpy(np.stack([disk(60 + 10 * i, 40, 20, 96, 128) for i in range(objects)])[None])
    credit = torch.tensor([0.8, 0.3][:objects])
    prior = torch.cat([mattes, credit[None, :, None, None].expand_as(mattes)], 1)
    with torch.no_grad():
        led, blind = FusedNet(net).answers(rgb, mattes, credit)
        alone, none = FusedNet(net).answers(rgb, mattes, credit, unled=False)
        assert blind is not None and none is None and torch.allclose(alone, led, atol=1e-4)
        assert torch.allclose(led, net(rgb, prior)[0], atol=1e-3)
        assert torch.allclose(blind, net(rgb, prior * 0)[0], atol=1e-3)
    assert float((led - blind).abs().max()) > 0.1


@pytest.mark.parametrize("fused", [True, False])
def test_in_bfloat16_the_answers_are_the_same_but_for_rounding(fused: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: fused)
    torch.manual_seed(4)
    net = RotoNet(2).eval()
    net.encoder.load_imagenet(load_backbone())
    rgb = torch.from_numpy(texture(3, 96, 128).transpose(2, 0, 1)[None].copy())
    mattes = torch.from_numpy(np.stack([disk(60 + 10 * i, 40, 20, 96, 128) for i in range(2)])[None])
    credit = torch.tensor([0.8, 0.3])
    with torch.no_grad():
        exact = FusedNet(net).answers(rgb, mattes, credit)
        rounded = FusedNet(net, bfloat16=True).answers(rgb, mattes, credit)
    for a, b in zip(exact, rounded, strict=True):
        assert a is not None and b is not None and b.dtype == torch.float32
        difference = (a - b).abs()
        assert 0 < float(difference.mean()) < 0.03 * float(a.std())


def test_the_search_widens_to_the_whole_frame_where_motion_lost_an_object() -> None:
    priors = np.stack([disk(100, 120, 20, 480, 854), disk(160, 120, 20, 480, 854)])
    areas = [float(p.mean()) for p in priors]
    box = search_box(priors, [0.9, 0.9], areas)
    assert box is not None and box.y0 == 36 and box.x0 == 16 and box.y1 == 205 and 240 < box.x1 < 250
    assert search_box(priors, [0.9, 0.1], areas) is None
    assert search_box(priors, [0.9, 0.9], [areas[0], areas[1] * 9]) is None
    assert search_box(priors * 0, [0.9, 0.9], [0.0, 0.0]) is None


def test_a_matte_that_runs_out_of_the_box_is_looked_for_everywhere() -> None:
    """Real net, all logits positive: everything is object, so the box can't hold it."""
    net = RotoNet(1).eval()
    with torch.no_grad():
        net.decoder.head[-1].weight.zero_()
        net.decoder.head[-1].bias.fill_(12.0)
    prior = disk(100, 100, 10, 320, 480)[None]
    assert search_box(prior, [1.0], [0.0]) is not None
    rgb = texture(1, 320, 480).transpose(2, 0, 1)
    assert predict(FusedNet(net), rgb, prior, [1.0], [0.0]).min() > 0.99
    with torch.no_grad():
        net.decoder.head[-1].bias.fill_(-12.0)
    assert predict(FusedNet(net), rgb, prior, [1.0], [0.0]).max() < 0.01


def test_a_prior_without_credit_leads_nothing_and_one_with_credit_does() -> None:
    net = FusedNet(RotoNet(1).eval())
    rgb, prior = texture(1).transpose(2, 0, 1), disk(40, 30, 12)[None]
    unled = predict(net, rgb, prior * 0, [0.0], [0.0])
    assert np.array_equal(predict(net, rgb, prior, [0.0], [0.0]), unled)
    led = predict(net, rgb, prior, [1.0], [0.0])
    inside = prior[0] > 0
    assert (led - unled)[0][inside].mean() > 0.2 > 0 > (led - unled)[0][~inside].mean()


def test_the_unled_answer_may_add_to_a_doubtful_prior_but_take_nothing_away() -> None:
    """Two fixed answers, the whole frame searched: led finds the left disk and doubts the middle one, unled only the right."""
    left, middle, right = (disk(x, 30, 8) for x in (16, 48, 80))

    class Two(FusedNet):
        def answers(
            self, rgb: torch.Tensor, mattes: torch.Tensor, credit: torch.Tensor, *, unled: bool = True
        ) -> tuple[torch.Tensor, torch.Tensor | None]:
            led, blind = 6 * left + 1 * middle - 3, 12 * right - 3 - 6 * left
            return torch.from_numpy(led[None]), torch.from_numpy(blind[None]) if unled else None

    net, rgb = Two(RotoNet(1).eval()), texture(1).transpose(2, 0, 1)
    prior = np.maximum(left, middle)[None]
    doubted = predict(net, rgb, prior, [0.6], [1.0])[0]
    trusted = predict(net, rgb, prior, [1.0], [1.0])[0]
    assert doubted[left > 0].min() > 0.9 and doubted[right > 0].min() > 0.9 and doubted[middle > 0].max() < 0.5
    assert trusted[left > 0].min() > 0.9 and trusted[right > 0].max() < 0.5
