"""Reading rasters: scenes, tile grids, streaming, masks, normalization, georeferencing."""

from geoanom.raster.environ import lock_down

lock_down()
