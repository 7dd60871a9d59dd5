// An application that looks after consistency by itself, with litefs-js as its manual has it.
// usage: node litefs_js_app.mjs PORT      LITEFS_DIR and DATABASE_FILENAME in the environment
import { execFileSync } from 'node:child_process'
import http from 'node:http'
import path from 'node:path'
import { getInstanceInfo } from 'litefs-js'
import { ensurePrimary, handleTransactionalConsistency, setTxCookie } from 'litefs-js/http'

const file = path.join(process.env.LITEFS_DIR, process.env.DATABASE_FILENAME)
const sql = text => execFileSync('sqlite3', ['-cmd', '.timeout 10000', file, text]).toString()

const server = http.createServer(async (request, response) => {
	try {
		if (request.method === 'POST') {
			if (await ensurePrimary(response)) return
			sql("create table if not exists note (text); insert into note values ('note')")
			await setTxCookie(response)
			response.end('written')
		} else {
			if (await handleTransactionalConsistency(request, response)) return
			const { currentIsPrimary } = await getInstanceInfo()
			response.end(JSON.stringify({ currentIsPrimary, n: Number(sql('select count(*) from note')) }))
		}
	} catch (error) {
		response.writeHead(500)
		response.end(String(error))
	}
})
server.listen(Number(process.argv[2]), '127.0.0.1')
