"""The avatar as an asset: texture, materials, GLB."""
