"""An intelligent bot (智能机器人), over the long connection or called by WeCom."""
