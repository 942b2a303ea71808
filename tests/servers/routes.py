"""The routes of the API as a flat list, with the doors that they declare."""

from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute, iter_route_contexts

from postern_api.tenancy import Door


def routes_of(app: FastAPI) -> list[APIRoute]:
    """All routes, those of included routers too."""
    found = [context.original_route for context in iter_route_contexts(app.routes)]
    return [route for route in found if isinstance(route, APIRoute)]


def doors_of(route: APIRoute) -> list[Door]:
    """The doors among a route's dependencies; exactly one, or a test fails."""
    return _doors(route.dependant)


def _doors(dependant: Dependant) -> list[Door]:
    call: object = dependant.call
    found = [call] if isinstance(call, Door) else []
    for inner in dependant.dependencies:
        found += _doors(inner)
    return found
