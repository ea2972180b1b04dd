from wechatpy.enterprise.crypto import WeChatCrypto


async def test_app_and_bot(simulator, application, api, subscribed):
    async with simulator() as sim:
        sim.set_callback_url(application.url)
        msg_id = await sim.write_to_app("lina", "你好")
        await sim.wait_for(sim.acknowledged)
        assert sim.acknowledged() == [msg_id]
        assert (await api(sim).text("lina", "您好"))["errcode"] == 0
        assert [b.text for b in sim.bubbles("lina", "app")] == ["你好", "您好"]
        bot = await subscribed(sim)
        await sim.write_to_bot("lina", "在吗")
        frame = await bot.receive()
        assert await bot.stream(frame["headers"]["req_id"], "s1", "在") == 0
        assert await bot.stream(frame["headers"]["req_id"], "s1", "在的", True) == 0
        assert [(b.text, b.finished) for b in sim.replies("lina", "bot")] == [("在的", True)]
        crypto = WeChatCrypto(
            sim.settings.apps[0].token.reveal(), sim.settings.apps[0].encoding_aes_key.reveal(), sim.settings.corp_id
        )
        got = application.received[0]
        assert "你好" in crypto.decrypt_message(
            got.body, got.query["msg_signature"], got.query["timestamp"], got.query["nonce"]
        )
