"""The map of bits, as a route."""

from typing import Annotated, Any

import numpy as np
import torch
from fastapi import FastAPI, Query, Request

from ..errors import InputError
from ..evaluation.bits_map import bits_map
from ..evaluation.noise import noise_draws
from .pictures import checked, framed
from .routes import Routes, Who
from .worker import Urgency


def add_map(app: FastAPI, routes: Routes, body: Any) -> None:
    """The route of the map.

    Args:
        app: gets it.
        routes: the studio's abilities.
        body: what the interface says of a request that is a file.
    """

    async def bits(
        request: Request, who: Who, level: Annotated[int, Query(ge=0, le=64)] = 0
    ) -> dict[str, Any]:
        """Where the bits of a picture file, the body of the request, are spent.

        `values` are bits by pixel, row by row, of all levels (0) or of one; those of all levels sum
        to `bits`, that is to bits/dim times the values of the picture. What has no place,
        `no_place`, is spread evenly over them.
        """
        visitor, data = routes.visitors.find(who), await request.body()

        def spread() -> dict[str, Any]:
            model = routes.house.open(visitor.model).stage.model
            _, image = framed(checked(data, routes.limits), model, "whole")
            alone = np.zeros(1, dtype=np.int64)
            (x,) = noise_draws(model, torch.from_numpy(image)[None], alone, draws=1, seed=0)
            found = bits_map(model, x)
            levels = found.by_level.shape[1]
            if level > levels:
                raise InputError(f"There is no level {level}: the model has {levels}.")
            shown = found.whole[0] if level == 0 else found.by_level[0, level - 1]
            return {
                "height": shown.shape[0],
                "width": shown.shape[1],
                "bits": float(found.total[0]),
                "bits_per_dim": float(found.total[0]) / image.size,
                "no_place": float(found.no_place[0]),
                "own": float(found.values[0].sum()),
                "by_level": found.by_level[0].sum((1, 2)).tolist(),
                "values": shown.flatten().numpy().round(6).tolist(),
            }

        answer: dict[str, Any] = await routes.worker.run(Urgency.ASKED, spread)
        return answer

    app.add_api_route("/api/score/map", bits, openapi_extra=body, methods=["POST"])
