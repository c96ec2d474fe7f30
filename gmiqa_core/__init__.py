"""The method: GMIQA's network, its learn2learn trainer, MetaQAP's networks. The toolkit around it is `gmiqa`."""
